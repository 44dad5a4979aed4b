"""The load of many clients on `nextk serve`: nothing lost, nothing repeated, and what it costs."""
