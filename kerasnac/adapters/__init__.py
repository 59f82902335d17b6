"""One room per third-party stack; its quirks live there and nowhere else."""
