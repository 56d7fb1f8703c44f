"""Recipes: the usual things to ask for, each a few lines on top of `Producer.enqueue`.

`pictures.py` makes a picture from a text, `training.py` trains a model, `again.py` repeats, varies and changes what an
earlier job asked for. `roles.py` finds the workflow's own names for `input_prompt` and the like. They only write requests:
whatever they do can be done with `enqueue`, and every door may use them.
"""

from producers.recipes.again import rerun, tweak, variation
from producers.recipes.ordered import Ordered
from producers.recipes.pictures import make_image
from producers.recipes.training import train_model

__all__ = ["Ordered", "make_image", "rerun", "train_model", "tweak", "variation"]
