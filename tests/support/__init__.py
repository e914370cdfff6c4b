"""What several rooms' tests share: model trees."""
