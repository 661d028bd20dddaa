"""How objects show themselves: HTML in a notebook, words elsewhere, figures where they are asked for.

One file for each kind of object says what is to be seen, a `Card`; `Card` says it twice. The classes
inherit `Shown` and only say whose card it is.
"""
