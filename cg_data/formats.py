"""temporary"""

from cg_data.edf.reader import EdfFile


def open_file(uri, index=None):
    return EdfFile.open(uri)
