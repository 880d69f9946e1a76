"""What a person sees: tables, pages, plots and lines of the terminal."""
