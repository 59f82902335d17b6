"""What a search optimises, records and selects."""
