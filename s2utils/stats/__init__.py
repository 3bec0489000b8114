"""Arrays in, numbers out: intervals, stratified means, paired tests."""
