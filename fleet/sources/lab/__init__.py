"""Source `lab`: containers that behave like bare nodes."""
