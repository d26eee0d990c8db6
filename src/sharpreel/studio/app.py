"""The script that Streamlit runs for each page of each visitor."""

from sharpreel.studio import pages

pages.run()
