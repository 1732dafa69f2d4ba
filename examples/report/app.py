"""A report by pandas: sales as CSV in, sums by region and month out, as CSV or as JSON.

    pip install -r requirements.txt -t build && cp app.py .cleaveignore build
    cleave deploy build --name report --memory 1024 --timeout 60
    cleave invoke report --raw -d @sales.csv

A cold start imports pandas. Where it is installed in an interpreter that `cleave runtimes add` has named, the code
alone can be deployed, with --preload pandas: it is imported once for all sandboxes then.
"""

import io

import pandas as pd


def handler(event, context):
    """CSV as bytes → the report as CSV; {"csv": text} → {"rows": …, "total": …, "report": {region: {month: sum}}}."""
    if isinstance(event, bytes):
        return report(event.decode())[1].to_csv(float_format="%.2f").encode()
    sales, sums = report(event["csv"])
    return {
        "rows": len(sales),
        "total": round(float(sales["amount"].sum()), 2),
        "report": {region: row.round(2).to_dict() for region, row in sums.iterrows()},
    }


def report(text):
    """The sales, and their sums: a row for each region, a column for each month."""
    sales = pd.read_csv(io.StringIO(text), parse_dates=["day"])
    months = sales["day"].dt.strftime("%Y-%m").rename("month")
    return sales, sales.pivot_table("amount", "region", months, aggfunc="sum", fill_value=0.0)
