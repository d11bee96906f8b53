"""Robot demonstrations as training data: LeRobot episodes, action map, statistics, frame cache."""
