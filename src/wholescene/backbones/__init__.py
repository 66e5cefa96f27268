"""Picture encoders with the parameter names that published weights have."""
