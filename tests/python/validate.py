"""Says whether a description of an HTTP API is valid: every error on a line of its own."""

import json
import sys

from openapi_spec_validator import OpenAPIV31SpecValidator

with open(sys.argv[1]) as file:
    errors = list(OpenAPIV31SpecValidator(json.load(file)).iter_errors())
for error in errors:
    print(error)
sys.exit(1 if errors else 0)
