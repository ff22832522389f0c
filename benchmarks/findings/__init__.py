"""The paper's findings in miniature: arms that differ in one thing each, trained and scored on one budget."""
