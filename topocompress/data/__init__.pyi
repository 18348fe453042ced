from .loading import Data as Data
from .loading import batches as batches
from .loading import load_data as load_data
