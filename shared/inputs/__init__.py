"""What does a workflow take, and is this what was given?

`reading.py` makes a `Signature` of what the API tells about a deployment, `check.py` holds a job's inputs against it, and
`form.py` says it as a JSON Schema. Pure: no I/O, no clock.
"""

from shared.inputs.check import check
from shared.inputs.form import form_of
from shared.inputs.reading import signature_of
from shared.inputs.signature import Input, Kind, Signature

__all__ = ["Input", "Kind", "Signature", "check", "form_of", "signature_of"]
