"""From noise to latents: noise times, guidance, solvers, the loop that drives them."""
