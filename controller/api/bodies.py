"""The root of what requests carry."""

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """An unknown key is a mistake to be told, not to be passed over."""

    model_config = ConfigDict(extra="forbid")
