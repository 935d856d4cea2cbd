"""The declaration of a site drafted from its data: columns counted, guesses with their figures, a Python file."""
