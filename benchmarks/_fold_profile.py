async def fold_profile(settings, records): return {"us_per_event": {}}
