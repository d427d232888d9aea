"""The root of what requests carry. Numbers and flags in it are StrictInt, StrictFloat, StrictBool: "1" is none."""

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """An unknown key is a mistake to be told, not to be passed over."""

    model_config = ConfigDict(extra="forbid")
