"""Source `azure`: virtual machines of Azure."""
