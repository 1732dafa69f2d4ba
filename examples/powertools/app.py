"""AWS Lambda Powertools: validated, idempotent orders, and a queue's batch whose failures are reported one by one.

    pip install -r requirements.txt -t build && cp app.py memory.py .cleaveignore build
    cleave deploy build --name orders --handler app.orders --memory 512 --timeout 30
    cleave deploy build --name queue --handler app.queue --memory 512 --timeout 30
    cleave invoke orders --log -d '{"order_id": "o-1", "sku": "tea", "quantity": 2}'

Powertools imports boto3, which AWS's runtime brings along and which comes with the code here; .cleaveignore leaves out
what only calls of AWS need. Log lines are JSON with the request's id, metrics lines of the log in CloudWatch's embedded
format.
"""

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.validation import SchemaValidationError, validate, validator
from memory import MemoryStore

ORDER = {
    "type": "object",
    "properties": {
        "order_id": {"type": "string", "minLength": 1},
        "sku": {"type": "string"},
        "quantity": {"type": "integer", "minimum": 1},
    },
    "required": ["order_id", "sku", "quantity"],
}
ONCE = IdempotencyConfig(event_key_jmespath="order_id")

logger = Logger(service="shop")
metrics = Metrics(namespace="Shop", service="shop")
processor = BatchProcessor(event_type=EventType.SQS)
taken = []


@logger.inject_lambda_context
@validator(inbound_schema=ORDER)
@metrics.log_metrics
def orders(event, context):
    """Take an order once, however often it comes. Raises SchemaValidationError for what is none."""
    ONCE.register_lambda_context(context)
    return receive(event) | {"request_id": context.aws_request_id}


@logger.inject_lambda_context
@metrics.log_metrics
def queue(event, context):
    """Take the orders of an SQS batch; those that failed come back as batchItemFailures, to be sent again."""
    ONCE.register_lambda_context(context)
    return process_partial_response(event, record_handler=from_record, processor=processor, context=context)


def from_record(record):
    """One message of the batch."""
    metrics.add_metric(name="MessagesRead", unit=MetricUnit.Count, value=1)
    try:
        return receive(validate(record.json_body, ORDER))
    except SchemaValidationError:
        logger.warning("order refused", message_id=record.message_id)
        raise


def receive(order):
    """Count an order and take it."""
    metrics.add_metric(name="OrdersReceived", unit=MetricUnit.Count, value=1)
    return take(order=order)


@idempotent_function(data_keyword_argument="order", config=ONCE, persistence_store=MemoryStore())
def take(order):
    """What a shop would do is left out. Not called for an order that was taken."""
    taken.append(order["order_id"])
    logger.info("order taken", order_id=order["order_id"])
    return {"order_id": order["order_id"], "number": len(taken)}
