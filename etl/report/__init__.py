"""What a day came to: tables of stages and metrics in the terminal, and a page of charts that needs no server."""
