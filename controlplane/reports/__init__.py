"""Documents for people outside the house, made from what was sealed. They judge nothing and invent no figure."""
