"""From a `.tflite` to a bundle that can be judged anywhere: quantize, evaluate, choose, pack.

Whatever loads a model runs in a child with limits (`models.child`); these
modules' own process sees bytes and figures only. `pack` works on any `.tflite`
with no more than the file, a name and a version.
"""
