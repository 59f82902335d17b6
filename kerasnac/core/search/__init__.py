"""Objectives of a search, records of its candidates, and rules to select from them."""
