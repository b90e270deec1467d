"""What HCCL needs to start: environment variables, buffer size, rank table."""
