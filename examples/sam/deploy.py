"""Deploys a template in SAM's shape with boto3: AWS_ENDPOINT_URL_LAMBDA=http://127.0.0.1:9000 python deploy.py"""

import io
import json
import pathlib
import zipfile

import boto3

folder = pathlib.Path(__file__).parent
template = json.loads((folder / "template.json").read_text())  # of a template in YAML: yaml.safe_load
client = boto3.client("lambda")
for name, resource in template["Resources"].items():
    own = {"Role": "arn:aws:iam::000000000000:role/any", **template["Globals"]["Function"], **resource["Properties"]}
    alias, url, source = own.pop("AutoPublishAlias"), own.pop("FunctionUrlConfig", None), folder / own.pop("CodeUri")
    with zipfile.ZipFile(zipped := io.BytesIO(), "w") as archive:
        for file in sorted(source.rglob("*.py")):
            archive.write(file, file.relative_to(source))
    try:
        client.create_function(FunctionName=name, Code={"ZipFile": zipped.getvalue()}, **own)
    except client.exceptions.ResourceConflictException:  # it is there: change it
        client.update_function_code(FunctionName=name, ZipFile=zipped.getvalue())
        client.get_waiter("function_updated").wait(FunctionName=name)
        client.update_function_configuration(FunctionName=name, **{key: own[key] for key in own if key != "Tags"})
    client.get_waiter("function_updated").wait(FunctionName=name)
    print(name, version := client.publish_version(FunctionName=name)["Version"])
    try:
        client.create_alias(FunctionName=name, Name=alias, FunctionVersion=version)
    except client.exceptions.ResourceConflictException:
        client.update_alias(FunctionName=name, Name=alias, FunctionVersion=version)
    if url and not client.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]:
        client.create_function_url_config(FunctionName=name, Qualifier=alias, **url)
