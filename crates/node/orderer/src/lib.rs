//! The ordering node: broadcast, deliver and channel participation
