# A function with an alias, a URL and a permission, on an engine that listens at http://127.0.0.1:9000:
#
#   python -m zipfile -c code.zip src/app.py && terraform init && terraform apply
#
# To run it on AWS, take the six lines of the provider's block that name the engine away, and give a real role.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

variable "endpoint" {
  description = "Where the engine serves the AWS Lambda API."
  type        = string
  default     = "http://127.0.0.1:9000"
}

variable "greeting" {
  type    = string
  default = "Hello"
}

provider "aws" {
  region                      = "us-east-1"
  access_key                  = "any"
  secret_key                  = "any"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true

  endpoints {
    lambda = var.endpoint
  }
}

resource "aws_lambda_function" "greet" {
  function_name    = "terraform-greet"
  role             = "arn:aws:iam::000000000000:role/any"
  runtime          = "python3.11"
  handler          = "app.handler"
  filename         = "${path.module}/code.zip"
  source_code_hash = filebase64sha256("${path.module}/code.zip")
  memory_size      = 256
  timeout          = 10
  publish          = true

  environment {
    variables = {
      GREETING = var.greeting
    }
  }

  tags = {
    team = "hello"
  }
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.greet.function_name
  function_version = aws_lambda_function.greet.version
}

resource "aws_lambda_function_url" "live" {
  function_name      = aws_lambda_function.greet.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "NONE"
}

resource "aws_lambda_permission" "anyone" {
  statement_id           = "anyone"
  action                 = "lambda:InvokeFunctionUrl"
  function_name          = aws_lambda_function.greet.function_name
  qualifier              = aws_lambda_alias.live.name
  principal              = "*"
  function_url_auth_type = "NONE"
}

output "url" {
  value = aws_lambda_function_url.live.function_url
}
