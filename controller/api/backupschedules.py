from pydantic import Field, StrictInt

from controller.api.bodies import Body
from controller.operations.backupplans import KEEP, LONGEST_DAYS, MOST_KEPT


class BackupSchedule(Body):
    schedule: str = Field(description="As crontab writes it, in UTC.", examples=["0 3 * * *"], max_length=100)
    keep: StrictInt = Field(KEEP, description="How many of these backups are kept.", ge=1, le=MOST_KEPT)
    days: StrictInt = Field(
        0,
        description="How many days they are kept; 0: no such limit. The newest stays.",
        ge=0,
        le=LONGEST_DAYS,
    )
