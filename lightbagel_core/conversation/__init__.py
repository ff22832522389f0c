"""Several turns: pictures, texts and answers in order, and their transcripts."""
