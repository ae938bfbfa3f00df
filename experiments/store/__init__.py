"""What is kept: runs in a database, arrays and models as content-addressed files."""
