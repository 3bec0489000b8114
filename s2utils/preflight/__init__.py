"""What a run lacks and will take: hours, memory, disk, access, dollars."""
