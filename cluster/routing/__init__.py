"""Which size a prompt needs: what is predicted from its text alone, and what that is worth. Pure; no clock, no Ray."""
