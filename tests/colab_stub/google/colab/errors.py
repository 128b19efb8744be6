"""The base of Colab's errors, though not of all of them."""


class Error(Exception):
    pass
