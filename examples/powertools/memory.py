"""Idempotency records in this sandbox's memory. With more than one sandbox they belong into a store that all share."""

from aws_lambda_powertools.utilities.idempotency import BasePersistenceLayer
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
)


class MemoryStore(BasePersistenceLayer):
    """Records by their key."""

    def __init__(self):
        super().__init__()
        self._records = {}

    def _get_record(self, idempotency_key):
        try:
            return self._records[idempotency_key]
        except KeyError:
            raise IdempotencyItemNotFoundError from None

    def _put_record(self, data_record):
        held = self._records.get(data_record.idempotency_key)
        if held is not None and not held.is_expired:
            raise IdempotencyItemAlreadyExistsError
        self._records[data_record.idempotency_key] = data_record

    def _update_record(self, data_record):
        self._records[data_record.idempotency_key] = data_record

    def _delete_record(self, data_record):
        self._records.pop(data_record.idempotency_key, None)
