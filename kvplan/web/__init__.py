"""The answers over HTTP and in a browser: `kvplan web`. No formulas here; needs the extra `web`."""
