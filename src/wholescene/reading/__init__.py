"""Own pictures and own cameras: what people really have, read into a picture and a Camera or refused in one sentence."""
