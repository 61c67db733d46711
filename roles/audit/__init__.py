"""What any Compose file exposes, judged without a host by the policy of our own."""
