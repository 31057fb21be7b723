"""The lesson: one page, without network or server, on which every equation of the bound can be moved by hand.

`static/` holds what the page is made of; `page.py` puts it together; `numbers.py` computes what it shows; `code.py`
finds the functions that stand beside the equations, `formulas.py` writes these. `static/model.js` is the model that
runs in the page, and a test holds it against refvlm.
"""
