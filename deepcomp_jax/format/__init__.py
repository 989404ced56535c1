"""The `.dcz` file: its parts in the order in which a file has them."""
