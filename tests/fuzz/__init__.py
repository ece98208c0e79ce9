"""Damaged files of every kind that is read: each gives a value or one `UserError`."""
