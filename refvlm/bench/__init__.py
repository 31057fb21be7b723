"""How fast the enumeration is on this machine: beside what the machine can do, and beside other frameworks."""
