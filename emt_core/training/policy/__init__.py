"""The VLA: a query token and an action head on any VLM; the policy folder that evaluation loads."""
