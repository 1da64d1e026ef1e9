"""EDF and EDF+ recordings: header, signal, annotations and the dialects of their channel labels."""
