"""The nano's world, whose truth can be read off the pixels: scenes, sentences about them, and a reader of pictures."""
