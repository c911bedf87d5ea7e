"""Online-learning models: click models, session index, trends, item embeddings, drift."""
