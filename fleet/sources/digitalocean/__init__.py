"""Source `digitalocean`: droplets of DigitalOcean or of AMD's Developer Cloud."""
