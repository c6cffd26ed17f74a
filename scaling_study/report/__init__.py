"""How a study is shown: tables, figures and a page, from stored results alone."""
