"""What Instruction Pre-Training is compared with: other ways to pairs (paper, section 4)."""
