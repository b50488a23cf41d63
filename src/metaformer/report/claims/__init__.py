"""The paper's claims, judged by a study."""
