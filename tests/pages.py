"""HTML as a strict reader sees it: every element is closed, tables have captions, and every head a scope."""

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Table:
    """caption: text. heads: those of the columns. rows, foot: lists of cells, the row's head first."""

    def __init__(self):
        self.caption, self.heads, self.rows, self.foot = "", [], [], []

    @property
    def columns(self):
        """The cells of the rows by the heads of their columns."""
        return dict(zip(self.heads, zip(*self.rows, strict=True), strict=True))


class Page(HTMLParser):
    """The tables, the text outside styles, and every attribute that could ask for something from outside."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tables, self.text, self.asks, self.attributes = [], "", [], {}
        self._open = []
        self.feed(source)
        self.close()
        assert self._open == []
        for table in self.tables:
            assert table.caption
            assert all(len(row) == len(table.heads) for row in (*table.rows, *table.foot)), table.caption

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.attributes.setdefault(tag, named)
        self.asks += [named[name] for name in ("src", "href", "action", "data") if name in named]
        if tag in VOID:
            return
        self._open.append(tag)
        if tag == "table":
            self.tables.append(Table())
        elif tag == "tr":
            self._cells = []
        elif tag in ("th", "td"):
            assert (tag == "th") == ("scope" in named)
            expected = "col" if "thead" in self._open else "row" if not self._cells else None
            assert named.get("scope") == expected
            self._cells.append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "tr":
            table = self.tables[-1]
            if "thead" in self._open:
                table.heads = self._cells
            else:
                (table.foot if "tfoot" in self._open else table.rows).append(self._cells)

    def handle_data(self, data):
        if "style" in self._open:
            assert "url(" not in data
            assert "@import" not in data
            return
        self.text += data
        if self._open and self._open[-1] == "caption":
            self.tables[-1].caption += data
        elif {"th", "td"} & set(self._open):
            self._cells[-1] += data


def number(text):
    """The number that a cell has, whatever its minus sign."""
    return float(text.replace("−", "-").replace("∞", "inf"))
