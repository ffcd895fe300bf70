//! One EHR: transport, address guard, auth, requests, replies, capabilities, connection check.
