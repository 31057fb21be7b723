"""Models and recognition distributions as plain, frozen objects; this floor knows no sum over z."""
